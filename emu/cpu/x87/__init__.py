"""The x87 FPU in exact integer arithmetic: values, operations, functions, register stack."""
