"""Live runs: real experts asked real questions, alone and by compositions; compared, explained."""
