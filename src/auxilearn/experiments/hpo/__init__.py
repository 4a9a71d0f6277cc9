"""The experiment `hpo`: penalties as upper parameters, which act on the outer loss through trained weights alone."""
