"""What the manuals and the kernels define: tables, layouts, batches of state."""
