"""CUB-200-2011: both settings of the paper, attributes that are given and labels that are learned."""

from auxilearn.data.published import CUB_FILES
from auxilearn.experiments.reproduce._reproduction import Reproduction
from auxilearn.experiments.reproduce.combined._cub import ATTRIBUTES
from auxilearn.experiments.reproduce.generated._cub import LEARNED_LABELS, LEARNED_LABELS_ABOUT

CUB = Reproduction(
    name="cub",
    title="CUB-200-2011",
    about=(
        "Photographs of 200 species of birds. With attributes: 5 or 10 training images of each species have a label; "
        "312 binary attributes of every training image are auxiliary tasks, each where annotators could see it. "
        "The paper's accuracy without auxiliary tasks, 54.79 % from 10 images a species, is far above the 37.2 % that "
        "it states for 30 in its other experiment: here it must have started from pretrained weights. Pass "
        "--pretrained with torchvision's ResNet-18; without it, training starts at random. Methods that look at the "
        "gradient of each of 313 losses take as many backward passes a step, and the memory of as many networks. "
        f"{LEARNED_LABELS_ABOUT}"
    ),
    files=CUB_FILES,
    cells=(*ATTRIBUTES, LEARNED_LABELS),
)
"""The reproduction."""
