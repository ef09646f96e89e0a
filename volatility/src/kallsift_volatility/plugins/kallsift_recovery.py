"""Make Volatility know the classes of kallsift_volatility: it imports each file of its folders of plugins."""

from __future__ import annotations

import kallsift_volatility.automagic
import kallsift_volatility.stackers  # noqa: F401
