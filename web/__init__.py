"""HTTP and HTML: translates requests, calls one function of the packages below, renders."""
