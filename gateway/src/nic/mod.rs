//! The network card: loads the XDP program, publishes generations, counts and reports drops.
