"""What each suite asks: the paragraph at the top of its page.

It says what was set up and why, and nothing of what came out, which changes with the lines.
"""

from __future__ import annotations

QUESTIONS = {
    "digits": """\
Do all methods work, from the data to this page? Handwritten digits of 8 x 8 pixels and a tiny
convolutional network, so that all of it runs on any machine in minutes. *improving* has few epochs,
and every visit still teaches something; *saturated* has many. One percentage point is only about
seven test images: do not read anything into small differences.""",
    "cifar10-small": """\
Which method is best at which budget? All methods, with a small convolutional network on CIFAR-10.
*improving* has many images and few epochs, so that fewer visits cost much; *saturated* has few
images and many epochs, so that late visits may change little. A good method is ahead in both.""",
    "cifar10-long": """\
Do the results hold when little is left to learn? All images of CIFAR-10 for 30 epochs, with the
small network.""",
    "cifar10-resnet18": """\
Do the results hold for ResNet-18? With the recipe of Zhou et al. (CVPR 2025), except its
optimizer. Needs a GPU.""",
    "noise": """\
Do methods that select by the loss prefer wrong labels, or avoid them? Between none and 40 % of the
training labels of CIFAR-10 are replaced by another class; the test labels are correct. The tables
have the number of wrong labels that each method trained on, and how many of them are in the hardest
of five difficulty groups.""",
    "noise-long": """\
The wrong labels of the suite noise for 30 epochs, long enough for the network to learn some of
them: none to 40 % of the labels of 10,000 CIFAR-10 images are replaced at random.""",
    "noise-text": """\
Do the results of noise-long hold for other data and another network? The sentences of SST-2, none
to 40 % of their labels turned round, and a convolution over words, for 30 epochs. Network and
recipe are those of the benchmark of suspects; nothing was chosen for this suite.""",
    "imbalance": """\
Does selecting by the loss help rare classes? The rarest class of this long-tailed CIFAR-10 has a
hundredth of the images of the most frequent one; the test images are balanced. The tables also have
the accuracy on the three rarest classes.""",
    "imbalance-long": """\
The long-tailed CIFAR-10 of the suite imbalance for 30 epochs, with and without wrong labels. With
wrong labels, most samples of a rare class are images of other classes: there, hard means wrong more
often than rare.""",
    "redundant": """\
Does pruning pay on redundant data, which it was made for? CIFAR-10 images repeated 1 to 50 times,
most of them few times, each copy augmented anew. A tenth of the images have a wrong label, the same
in all copies.""",
    "redundant-long": """\
The repeated images of the suite redundant for 12 epochs: a frequent image is seen several hundred
times.""",
    "rates": """\
Is the baseline well tuned? Full at equal cost and pruning, each at several learning rates: 10,000
images, a fifth of the labels wrong, 30 epochs.""",
    "batches": """\
Is another batch size the better answer? Full at equal cost and pruning, each with several sizes of
batches at one learning rate: 10,000 images, a fifth of the labels wrong, 30 epochs. Half of the
visits in batches half as large are as many steps as full training takes.""",
    "backbones": """\
Does the architecture matter? A ResNet, a ViT and a Swin on CIFAR-10 images, and a Mamba on the
sentences of SST-2, all small and trained from scratch.""",
    "instruction": """\
Does pruning pay in instruction tuning, with few epochs and one loss per answer? A small Llama,
trained from scratch on questions and answers of GSM8K. *Accuracy* is that of the next token of
held-out answers; the tables also have the held-out loss and the exact matches.""",
}
