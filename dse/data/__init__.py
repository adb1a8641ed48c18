"""Data sets: the only package that reads one. Nothing in it executes what a file says."""

from dse.data.catalogue import LOADERS as LOADERS
from dse.data.catalogue import load_data as load_data
from dse.data.catalogue import outline_data as outline_data
from dse.data.dataset import DataSet as DataSet
from dse.data.dataset import Scaling as Scaling
from dse.data.dataset import Split as Split
