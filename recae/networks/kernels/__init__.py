"""What a training step does on a device, as kernels: in Triton, and the same in plain torch."""
