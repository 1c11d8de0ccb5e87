"""`--depth full`: what takes many replays, in processes of their own, kept so that it can be stopped and resumed."""
