"""What only Flask has: several apps, app factories, its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, render_template_string, send_from_directory, session
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wsgi import FileWrapper

from optidash_integrations.errors import SettingsError
from optidash_integrations.flask import Optidash
from optidash_integrations.flask.wsgi import Middleware
from tests.sites.base import Reply
from tests.sites.drivers import call_wsgi, environ_of
from tests.sites.photos import CHROME, photo


def app_with(folder: Path, **config: Any) -> Flask:
    app = Flask("site", static_folder=str(folder), static_url_path="/static")
    app.config.update(OPTIDASH_CACHE_DIR=folder / ".cache", OPTIDASH_DEADLINE=60, **config)

    @app.route("/photo.jpg")
    def answer() -> Response:
        return Response(photo(), mimetype="image/jpeg")

    return app


def get(app: Any, target: str = "/photo.jpg", **headers: str) -> Reply:
    return call_wsgi(app, environ_of("GET", target, CHROME | headers))


def test_an_app_factory_sets_up_each_app_with_its_own_settings(tmp_path: Path) -> None:
    optidash = Optidash()
    one, two = app_with(tmp_path), app_with(tmp_path, OPTIDASH_FORMATS="webp")
    optidash.init_app(one)
    optidash.init_app(two)
    assert get(one).type == "image/avif"
    assert get(two).type == "image/webp"
    assert one.extensions["optidash"] is not two.extensions["optidash"]


def test_a_second_set_up_of_one_app_is_refused(tmp_path: Path) -> None:
    app = app_with(tmp_path)
    optidash = Optidash(app)
    with pytest.raises(RuntimeError, match="already"):
        optidash.init_app(app)
    with pytest.raises(RuntimeError, match="already"):
        Optidash(app)


def test_outside_an_app_that_is_set_up_there_is_a_clear_error(tmp_path: Path) -> None:
    app = app_with(tmp_path)
    with app.app_context(), pytest.raises(RuntimeError, match="init_app"):
        Optidash().url("photo.jpg")


def test_wrong_settings_are_reported_together(tmp_path: Path) -> None:
    app = app_with(tmp_path, OPTIDASH_MAX_WIDHT=9, OPTIDASH_COMPRESSION="strong")
    with pytest.raises(SettingsError) as raised:
        Optidash(app)
    assert len(raised.value.problems) == 2
    assert "OPTIDASH_MAX_WIDTH" in str(raised.value)
    assert "OPTIDASH_COMPRESSION takes" in str(raised.value)


def test_settings_of_other_extensions_are_not_ours(tmp_path: Path) -> None:
    app = app_with(tmp_path, SQLALCHEMY_DATABASE_URI="sqlite://", MAX_WIDTH=9)
    Optidash(app)


def test_the_secret_key_may_come_after_init_app(tmp_path: Path) -> None:
    app = app_with(tmp_path, OPTIDASH_TRANSFORMS="none", OPTIDASH_DIRECTORY=str(tmp_path))
    Optidash(app)
    app.secret_key = "a secret"
    app.config["SECRET_KEY_FALLBACKS"] = ["an old secret"]
    (tmp_path / "photo.jpg").write_bytes(photo())
    with app.test_request_context():
        address = render_template_string("{{ optidash_url('photo.jpg', w=33)|safe }}")
    assert "s=" in address
    assert get(app, address).size[0] == 33
    assert get(app, address.replace("w=33", "w=34")).size[0] != 34


def test_without_a_secret_nothing_is_signed(tmp_path: Path) -> None:
    app = app_with(tmp_path, OPTIDASH_DIRECTORY=str(tmp_path))
    optidash = Optidash(app)
    (tmp_path / "photo.jpg").write_bytes(photo())
    with app.test_request_context():
        assert "s=" not in optidash.url("photo.jpg", w=33)


def test_static_files_are_optimised_and_a_hit_opens_no_pixel_of_them(tmp_path: Path) -> None:
    app = app_with(tmp_path)
    Optidash(app)
    (tmp_path / "a.jpg").write_bytes(photo())
    first, second = get(app, "/static/a.jpg"), get(app, "/static/a.jpg")
    assert first.type == second.type == "image/avif"
    assert second.is_hit
    assert get(app, "/static/a.jpg", range="bytes=0-9").body == first.body[:10]


def test_send_from_directory_in_a_blueprint_is_optimised(tmp_path: Path) -> None:
    app = app_with(tmp_path)
    blueprint = Blueprint("albums", "albums", url_prefix="/albums")
    (tmp_path / "a.jpg").write_bytes(photo())

    @blueprint.route("/<name>")
    def album(name: str) -> Response:
        return send_from_directory(tmp_path, name)

    app.register_blueprint(blueprint)
    Optidash(app)
    assert get(app, "/albums/a.jpg").type == "image/avif"


def test_a_session_that_is_changed_after_every_function_makes_the_answer_private(
    tmp_path: Path,
) -> None:
    app = app_with(tmp_path, SECRET_KEY="x", OPTIDASH_PATHS=["/"])

    @app.after_request
    def note(response: Response) -> Response:
        session["seen"] = True
        return response

    Optidash(app)
    reply = get(app)
    assert "set-cookie" in reply.headers
    assert (reply.type, reply.body) == ("image/jpeg", photo())


def test_it_stands_below_other_middleware_and_above_a_mount_point(tmp_path: Path) -> None:
    app = app_with(tmp_path, OPTIDASH_PUBLIC_PATHS=["/shop/"])
    Optidash(app)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    reply = get(app, x_forwarded_prefix="/shop", cookie="a=b")
    assert reply.headers["cache-control"].startswith("public")


def test_relative_folders_are_below_the_app(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "photo.jpg").write_bytes(photo())
    app = Flask("site", root_path=str(tmp_path))
    app.config.update(OPTIDASH_DIRECTORY="media", OPTIDASH_CACHE_DIR=None)
    optidash = Optidash(app)
    assert get(app, "/img/photo.jpg").type == "image/avif"
    with app.test_request_context():
        assert "v=" in optidash.url("photo.jpg", w=320)


def test_saving_without_a_folder_names_the_setting(tmp_path: Path) -> None:
    app = app_with(tmp_path)
    optidash = Optidash(app)
    with app.app_context(), pytest.raises(SettingsError, match="OPTIDASH_DIRECTORY"):
        optidash.save(None)  # type: ignore[arg-type]


def test_markup_is_not_escaped_twice(tmp_path: Path) -> None:
    app = app_with(tmp_path, OPTIDASH_DIRECTORY=str(tmp_path))
    Optidash(app)
    (tmp_path / "photo.jpg").write_bytes(photo())
    with app.test_request_context():
        shown = render_template_string("{{ optidash_img('photo.jpg', alt='a & b') }}")
    assert shown.startswith("<img ")
    assert 'alt="a &amp; b"' in shown


# WSGI apps of every kind behind the same middleware


def wrapped(inner: Any, folder: Path) -> Any:
    app = app_with(folder)
    Optidash(app)
    return Middleware(inner, lambda: app.extensions["optidash"].service)


def test_an_app_that_writes_is_passed_on(tmp_path: Path) -> None:
    def writes(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Type", "image/jpeg")])
        write(photo()[:100])
        return [photo()[100:]]

    assert get(wrapped(writes, tmp_path)).body == photo()


def test_an_app_that_is_a_generator_is_understood(tmp_path: Path) -> None:
    def generates(environ: Any, start_response: Any) -> Any:
        start_response(
            "200 Fine", [("Content-Type", "image/jpeg"), ("Content-Length", str(len(photo())))]
        )
        yield b""
        yield photo()

    assert get(wrapped(generates, tmp_path)).type == "image/avif"


def test_an_app_that_changes_its_mind_is_understood(tmp_path: Path) -> None:
    def changes(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "image/jpeg")])
        try:
            raise ValueError("a bug")
        except ValueError:
            import sys

            start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"sorry"]

    reply = get(wrapped(changes, tmp_path))
    assert (reply.status, reply.body) == (500, b"sorry")


@pytest.mark.parametrize("served", [True, False])
def test_the_apps_body_is_closed_exactly_once(tmp_path: Path, served: bool) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Any:
            yield photo()

        def close(self) -> None:
            closed.append(True)

    def app(environ: Any, start_response: Any) -> Body:
        kind = "image/jpeg" if served else "text/plain"
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(photo())))])
        return Body()

    site = wrapped(app, tmp_path)
    get(site)
    assert len(closed) == 1
    get(site)
    assert len(closed) == 2


def test_a_part_of_an_open_file_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "two.bin"
    path.write_bytes(b"head" + photo())

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "image/jpeg")])
        file = path.open("rb")
        file.seek(4)
        return environ.get("wsgi.file_wrapper", FileWrapper)(file)

    reply = get(wrapped(app, tmp_path))
    assert reply.body == photo() or reply.type == "image/avif"
