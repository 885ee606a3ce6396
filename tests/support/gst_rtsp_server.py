"""An RTSP server of GStreamer with a picture at /live, run by the system's Python, which has its bindings.

    python3 gst_rtsp_server.py PORT [USER PASSWORD]       # port 0 is any; prints the port when it is ready

Debian: gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURE = (
    "( videotestsrc is-live=true ! video/x-raw,width=96,height=64,framerate=25/1 ! "
    "x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 )"
)
ROLE = "viewer"


def main() -> None:
    Gst.init(None)
    if Gst.ElementFactory.find("x264enc") is None:
        sys.exit("x264enc is not installed: gstreamer1.0-plugins-ugly")
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PICTURE)
    factory.set_shared(True)
    if sys.argv[2:]:
        permissions = GstRtspServer.RTSPPermissions()
        for right in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role(ROLE, right, True)
        factory.set_permissions(permissions)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", ROLE)
        login = GstRtspServer.RTSPAuth()
        login.add_basic(GstRtspServer.RTSPAuth.make_basic(*sys.argv[2:]), token)
        server.set_auth(login)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
