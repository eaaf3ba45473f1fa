"""All three samples in one chain: what each does to a container holds where the last puts it."""

import pytest
from support import cgroups
from support.commands import read

from plugins.samples import allowed, entry, environments, here, reload
from plugins.test_clearcfs import QUOTA, quota
from plugins.test_qos import BE, LS, V2_FILES, Qos, expected, slice_files, slices

__all__ = ["slices"]


@pytest.fixture(params=environments("cpu", "cpuset", "memory"))
def runtime(scene, request):
    return scene.runtime(request.param)


class All(Qos):
    """The three, in this order or in the other."""

    def __init__(self, scene, node, runtime, reverse=False, **options):
        super().__init__(scene, node, runtime, **options)
        chain = [
            entry("clearcfs"),
            entry("konfine", {"systemReserved": [0]}),
            entry("qos", self.conf),
        ]
        node.configure(*(reversed(chain) if reverse else chain))

    def check(self, ids=(("ls", LS), ("be", BE))):
        for id, annotations in ids:
            self.create(id, annotations, cpu=QUOTA).check()
            self.runtime.start(id).check()
        assert [quota(self, id) for id in ("ls", "be")] == [None, QUOTA["quota"]]
        for id in ("ls", "be"):
            first = read(f"/proc/{self.pid(id)}/status")
            inside = self.inside(id, "cat", "/proc/self/status")
            assert (allowed(first), allowed(inside)) == (here() - {0}, here() - {0})


@pytest.mark.hostonly
@pytest.mark.parametrize("reverse", [False, True])
def test_all_in_one_chain(scene, node, runtime, reverse):
    case = All(scene, node, runtime, reverse)
    case.check()
    for wanted in ("ls", "be"):
        assert case.below(wanted, wanted)
        assert case.files(wanted) == expected(case, wanted) != {}


@pytest.mark.tcg
@pytest.mark.parametrize("name", ["runc", "crun", "podman"])
def test_all_in_one_chain_on_v2(scene, node, name):
    case = All(scene, node, scene.runtime(name))
    case.check()
    for wanted in ("ls", "be"):
        assert case.below(wanted, wanted)
        assert case.files(wanted) == V2_FILES[wanted]


@pytest.mark.tcg
def test_all_in_one_chain_under_systemd(scene, node, oci, slices):
    case = All(scene, node, oci, systemd=True)
    case.check()
    reload()
    for wanted in ("ls", "be"):
        assert slice_files(case, wanted) == V2_FILES[wanted]
        (now,) = cgroups.membership(case.pid(wanted)).values()
        assert f"/{case.prefix}{wanted}.slice/" in now
        assert allowed(read(f"/proc/{case.pid(wanted)}/status")) == {1}
    assert [quota(case, id) for id in ("ls", "be")] == [None, QUOTA["quota"]]
