"""Files of a machine with a GPU, planted below a folder."""

CARD = "sys/bus/pci/devices/0000:01:00.0"
#: What each file holds on a machine with a GPU that works.
WELL = {
    f"{CARD}/vendor": "0x10de\n",
    f"{CARD}/class": "0x030200\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 2025\n",
    "dev/nvidia0": "",
    "dev/nvidiactl": "",
    "proc/1/cgroup": "0::/init.scope\n",
}


def plant(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def without(*starts):
    return {path: text for path, text in WELL.items() if not path.startswith(starts)}
