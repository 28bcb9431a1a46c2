"""Methods of training behind one interface, which takes a step at a time."""
