"""Jobs: requests that are acknowledged first and answered later."""
