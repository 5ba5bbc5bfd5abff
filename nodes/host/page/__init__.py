"""What the page is told besides the nodes' outputs: events while they run, and routes that only read."""
