"""clearcfs: containers of the class ls run without a CFS quota. See docs/plugins/clearcfs.md."""

from nri_hook import skel
from nri_hook.errors import NoControl
from nri_hook.skel_conf import Conf


def invoke(request: skel.Request) -> skel.Result:
    conf = Conf(request.conf, ("annotation", "classes"))
    annotation = conf.text("annotation", "qos.class")
    classes = conf.texts("classes", ["ls"])
    result = request.new_result("clearcfs")
    is_meant = request.spec.annotations.get(annotation) in classes
    if request.state == skel.State.CREATE and is_meant:
        controls = request.controls()
        try:
            if controls.cpu_quota is not None:
                controls.cpu_quota = None
                result.metadata["cpu.quota"] = "none"
        except NoControl:  # without the controller there is no quota either
            pass
    return result


if __name__ == "__main__":
    skel.run(invoke, "clearcfs")
