"""Which test runs which commands of the documentation, and which cannot be run here."""

from docs import page

# (page, section) -> the test, in this directory, that runs the commands there.
INSTALL = "test_install.py::test_from_nothing_to_a_placed_container"
OTHERS = "test_install.py::test_the_other_pages"
SIX = "test_install.py::test_the_six_lines_of_the_readme"
TESTS = {
    ("README.md", "Place a container"): SIX,
    ("README.md", "Use it"): OTHERS,
    ("docs/configuration.md", "Logs"): OTHERS,
    ("docs/configuration.md", "Who is where"): OTHERS,
    ("docs/configuration.md", "Cleaning up"): OTHERS,
    ("docs/install.md", "The package"): INSTALL,
    ("docs/install.md", "A configuration"): INSTALL,
    ("docs/install.md", "podman"): INSTALL,
    ("docs/install.md", "In place"): INSTALL,
    ("docs/install.md", "CRI-O"): INSTALL,
    ("docs/install.md", "runc and crun by themselves"): INSTALL,
    ("docs/install.md", "For some containers only"): INSTALL,
    ("docs/install.md", "Cleaning up now and then"): INSTALL,
    ("docs/install.md", "Upgrading"): INSTALL,
    ("docs/install.md", "Taking it away"): INSTALL,
    ("docs/plugins.md", "Try it"): "test_plugins.py::test_it_is_tried_as_the_page_shows",
    ("docs/plugins.md", "Test it"): "test_plugins.py::test_its_tests_pass",
    ("docs/plugins.md", "Install it"): "test_plugins.py::test_a_real_container_obeys_it",
    ("docs/plugins/clearcfs.md", "clearcfs"): OTHERS,
    ("docs/plugins/qos.md", "qos"): OTHERS,
    ("docs/troubleshooting.md", "Troubleshooting"): OTHERS,
}

CI = "CI runs it: a test would install the project into .venv, or run itself"
SELINUX = "no machine of the tests has a policy of SELinux"
CPUS = (
    "needs a machine with eight CPUs; tests/e2e/plugins/test_konfine.py has the plugin called for "
    "containers, with the CPUs that are here"
)
# (page, command) -> why.
CANNOT = {
    ("README.md", "make demo"): CI,
    ("README.md", "make test"): CI,
    ("docs/install.md", "restorecon -Rv /usr/libexec/oci/hooks.d /opt/nri /opt/nri-hook"): SELINUX,
    ("docs/install.md", "semanage fcontext -a -t bin_t '/srv/nri/bin(/.*)?'"): SELINUX,
    ("docs/install.md", "restorecon -Rv /srv/nri/bin"): SELINUX,
    (
        "docs/plugins/konfine.md",
        "podman run --rm busybox grep Cpus_allowed_list /proc/self/status",
    ): CPUS,
}


def bare(line):
    """A command without the comment behind it."""
    return line.partition("  #")[0].rstrip()


def of(test):
    """The commands that this test runs, in the order of the pages."""
    return [
        line
        for name, section in TESTS
        if TESTS[name, section] == test
        for line in page.commands(name, section)
        if (name, bare(line)) not in CANNOT
    ]
