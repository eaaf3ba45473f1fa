"""`python -m nri_hook`: the same as the nri-hook command."""

import sys

from nri_hook.cli import main

sys.exit(main())
