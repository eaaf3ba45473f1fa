"""What the tests of real containers are made of: scenes, nodes, plugins, bundles, runtimes."""
