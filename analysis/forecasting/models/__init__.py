"""The forecasters that ship, a file per family; `forecaster.FORECASTERS` names them."""
