"""Let Volatility 3 analyse Linux dumps without symbol files, by kallsift.

Licensed under the Volatility Software License 1.0: https://www.volatilityfoundation.org/license/vsl-v1.0
"""
