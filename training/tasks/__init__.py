"""What a model can learn: the table TASKS.

Adding a task: a file here with a subclass of Task, its row in TASKS and, to export its models, a
row of ENDPOINTS in export/endpoints.py.
"""

from training.tasks.classification import Classification
from training.tasks.distillation import Distillation
from training.tasks.masked import MaskedAutoencoding, MaskedImageModelling
from training.tasks.task import Task

TASKS: dict[str, Task] = {
    "classification": Classification(),
    "distillation": Distillation(),
    "mae": MaskedAutoencoding(),
    "mim": MaskedImageModelling(),
}
