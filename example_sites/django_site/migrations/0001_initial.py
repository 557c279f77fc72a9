from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """The photo."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Photo",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "image",
                    models.ImageField(
                        height_field="height", upload_to="uploads/", width_field="width"
                    ),
                ),
                ("width", models.PositiveIntegerField(default=0, editable=False)),
                ("height", models.PositiveIntegerField(default=0, editable=False)),
                ("title", models.CharField(max_length=200)),
                ("alt", models.CharField(blank=True, max_length=500)),
                ("credit", models.CharField(blank=True, max_length=200)),
                ("is_sample", models.BooleanField(default=False)),
                ("added", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ("is_sample", "-added", "pk")},
        ),
    )
