"""What each suite asks: the paragraph at the top of its page.

It says what was set up and why, and nothing of what came out, which changes with the lines.
"""

from __future__ import annotations

QUESTIONS = {
    "digits": """\
Do the harness and every method work, from the data to this page? Handwritten digits of 8 x 8
pixels and a tiny convolutional net, so that all methods run on any machine in minutes.
*improving* has few epochs, and each visit still teaches something; *saturated* has many. With so
few test images a point of accuracy is some seven of them: read nothing into small differences.""",
    "cifar10-small": """\
Which method is best at which saving? All methods, at two budgets, with a small convolutional
net on CIFAR-10. *improving* has many images and few epochs, so that there is much to lose by
leaving visits out; *saturated* has few images and many epochs, so that late visits may change
little. A method that is ahead in one of the two only is no method for all runs.""",
    "cifar10-long": """\
And if training lasts until little is left to learn? All images of CIFAR-10 for 30 epochs, the
small net.""",
    "cifar10-resnet18": """\
Does what small nets say hold for ResNet-18, by the paper's recipe but for its optimizer? Made for
a machine with a GPU.""",
    "noise": """\
Does choosing by the loss pick wrong labels up, or leave them out? A share of the labels of
CIFAR-10 images is replaced by another class, none to four in ten; the test images are as they
were. The tables tell how many wrong labels each method trained on, and whether the hardest of
five groups of samples holds them.""",
    "noise-long": """\
The same for 30 epochs: long enough for the net to learn wrong labels by heart, as in training on
data of the web.""",
    "imbalance": """\
Does choosing by the loss help rare classes? CIFAR-10 thinned so that the rarest class has a
hundredth of the images of the most frequent one, so that hard may mean rare; the test images are
balanced. The tables have the accuracy on the three rarest classes beside that on all.""",
    "imbalance-long": """\
The same for 30 epochs, with and without wrong labels. Where labels are wrong, most samples of a
rare class are images of other classes: there hard means wrong more often than rare.""",
    "redundant": """\
What of the data that pruning was made for? CIFAR-10 images repeated 1 to 50 times, most of them
seldom, each copy augmented anew, and a tenth of the images with a wrong label, the same in all
copies.""",
    "redundant-long": """\
The same for 12 epochs: a frequent image is seen some hundred times.""",
    "rates": """\
Is the rival well tuned? Full at equal cost at several learning rates, each beside pruning at the
same rate: 10,000 images, a fifth of the labels wrong, 30 epochs.""",
    "backbones": """\
Does the kind of net matter? A ResNet, a ViT and a Swin on CIFAR-10 images, and a Mamba on the
sentences of SST-2, all small, from random weights.""",
    "instruction": """\
What of instruction tuning, with few epochs and one loss per answer? A small Llama from random
weights on GSM8K's questions and answers. *Accuracy* is that of the next token of held-out
answers; the tables have the held-out loss and the exact matches beside it.""",
}
