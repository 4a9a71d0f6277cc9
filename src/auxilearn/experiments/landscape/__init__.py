"""The experiment `landscape`: two parameters, and pictures of them."""
