"""How fast networks train on a CPU: beside the public code, and in bf16 instead of fp32."""
