"""The experiment `hyper-cleaning`: a weight for every training sample."""
