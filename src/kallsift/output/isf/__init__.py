"""Write Volatility 3's symbol files (ISF): types and symbols of one kernel."""
