"""Named arrays: HDF5, .npy and .npz."""
