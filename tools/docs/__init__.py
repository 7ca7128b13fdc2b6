# SPDX-License-Identifier: Apache-2.0
"""What the documentation is made with: links, generated tables, figures drawn from real objects.

    python -m tools.docs.interfaces    # docs/interfaces.md
    python -m tools.docs.figures       # docs/images/, the figures of docs/concepts.md

Needs `pip install -e .[docs]`, and the built messages for the former. `make docs` builds the site.
"""
