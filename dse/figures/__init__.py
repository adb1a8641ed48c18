"""Every still picture of a run: the only package that imports matplotlib.

Each ``draw_*`` function is pure: data in, ``Figure`` out. Pictures carry no clock and no version:
the same data give the same bytes. Colours are those of Okabe and Ito, or cividis, which remain
apart for readers who do not tell red from green.
"""

from dse.figures.accuracy import draw_accuracies as draw_accuracies
from dse.figures.design import draw_chip as draw_chip
from dse.figures.design import draw_gantt as draw_gantt
from dse.figures.design import draw_layers as draw_layers
from dse.figures.front import draw_choices as draw_choices
from dse.figures.front import draw_energy_along_front as draw_energy_along_front
from dse.figures.front import draw_front as draw_front
from dse.figures.front import draw_rounding as draw_rounding
from dse.figures.style import save as save
from dse.figures.training import draw_training as draw_training
