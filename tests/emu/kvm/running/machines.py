"""Guests that ship, on boards of the simulated KVM."""

from emu.cpu.models import MODELS
from emu.guests import find
from emu.kvm import Kvm
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.kvm.running.machine import HOSTS
from emu.migration.running import RunningGuest
from emu.releases import release

MODEL_OF = {"vmx": "skylake-x", "svm": "zen3"}


def model_for(name):
    return MODELS[MODEL_OF[find(name).vendor]]


def kvm_for(name, kernel):
    host = host_of(HOSTS[model_for(name).name], release(kernel), ModuleParameters(nested=True))
    return Kvm(release(kernel), host)


def guest_on(name, kernel):
    return RunningGuest(kvm_for(name, kernel), model_for(name), find(name).image(), name)
