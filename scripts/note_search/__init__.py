"""What `scripts/private_search` is made of: passages of files, the index that holds their vectors, and who makes those."""
