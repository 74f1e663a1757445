"""The page of a run: what it cost, what it left out and why, and which samples to look at.

`facts` reads a state, `numbers`, `spread_map`, `classes` and `lists` make figures of it, `findings`
says what stands out, `charts` and `items` show it, `render` writes it down, `make` is the way in.
"""
