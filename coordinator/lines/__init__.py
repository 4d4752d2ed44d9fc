"""Lines between parties that the kernel's network stack uses: what shaped links are checked against, and an alternative to them."""
