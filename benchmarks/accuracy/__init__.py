"""Does it keep the accuracy, at what cost, against whom? Real data, matched cost, several seeds.

`python -m benchmarks.accuracy --suite cifar10-small --data DIR` makes runs, one JSON line each, in
`benchmarks/results/accuracy`; `python -m benchmarks.accuracy report` makes tables, plots and
`docs/results.md` of the lines. A *suite* is a set of tasks (data, net, recipe) and of contenders
(methods x budgets x seeds); a *task* knows nothing of methods, a contender nothing of data.
"""
