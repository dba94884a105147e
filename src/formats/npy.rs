//! The npy format of NumPy: reading and writing one array.
