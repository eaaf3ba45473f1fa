"""What podman itself makes of hook files, beside what is said of them."""

import os

import pytest
from support import runtimes
from unit.registration.test_ocihooks import (
    ACCEPTED,
    GO_KNOWS,
    PATTERNS,
    REFUSED,
    annotated,
    as_bytes,
    file,
)

from nri_hook.registration import goregex


@pytest.fixture
def podman(scene):
    """Whether podman starts a container with this hook file there."""
    if runtimes.Podman.lacks():
        pytest.skip(runtimes.Podman.lacks())
    podman = scene.runtime("podman")
    bundle = scene.bundle(("true",))
    os.mkdir(podman.hooks_dir)

    def accepts(text):
        with open(f"{podman.hooks_dir}/a.json", "wb") as output:
            output.write(as_bytes(text))
        done = podman.run("one", bundle, detach=False)
        podman.delete("one")
        if done.status == 126 and "setting up OCI Hooks" in done.text:
            return False
        done.check()
        return True

    return accepts


@pytest.mark.hostonly
def test_podman_judges_files_alike(podman):
    assert {name: podman(text) for name, text in ACCEPTED.items()} == dict.fromkeys(ACCEPTED, True)
    refused = {name: podman(text) for name, (text, _) in REFUSED.items()}
    assert refused == dict.fromkeys(REFUSED, False)


@pytest.mark.hostonly
def test_podman_judges_expressions_alike(podman):
    """Those that are accepted all in one file, so that each that is refused has its own."""
    assert podman(file(when={"commands": PATTERNS[goregex.ACCEPTED]}))
    for pattern in PATTERNS[goregex.REFUSED]:
        assert (pattern, podman(annotated("^$", pattern))) == (pattern, False)
    # Neither verdict would be right for all of those that are not judged.
    assert podman(file(when={"commands": GO_KNOWS[:8]}))
    assert not podman(annotated("^$", "(?=a)"))


@pytest.mark.hostonly
def test_podman_passes_over_a_hook_that_is_not_there(podman):
    assert podman(file(hook={"path": "/proc/no-such"}))
