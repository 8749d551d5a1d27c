"""What the server decides, without IO: values and pure functions that take the time as an argument."""
