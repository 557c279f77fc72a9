"""The self-hosted image API: it speaks as the hosted one does, over the embedded engine.

It needs the extra `server`.
"""
