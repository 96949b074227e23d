"""For web and app developers: the OpenAPI document of what is served, and a page to try it on."""
