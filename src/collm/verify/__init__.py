"""`collm verify`: a laboratory in which the production estimators are compared with exact gradients.

Small Dec-POMDPs whose every trajectory and rollout tree can be enumerated (`dec_pomdp`, `problems`) are played through the
production rollout, every random choice in turn (`choices`, `enumerate`), and learned from through the production learner,
each episode weighted by its probability (`learner`). What comes out is an expected gradient, compared with autograd
through the exactly computed objective (`exact`, `conditional`), which shares no code with production. `rows_*` say what
is compared, `table` prints it.
"""
