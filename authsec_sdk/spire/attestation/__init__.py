"""What the two halves of a node attestor say to each other: messages both ways, and the proofs in them. Pure."""
