"""A data set that notes the epochs that it is told of."""


class Told:
    """To be put before a data set's class."""

    @property
    def epochs(self):
        return vars(self).setdefault("told", [])

    def set_epoch(self, epoch):
        self.epochs.append(epoch)
