"""Federation of the server: follow the bundles of other trust domains, and serve our own."""
