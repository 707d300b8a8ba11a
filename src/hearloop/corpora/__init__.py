"""Where speech comes from: each corpus yields utterances, or reasons why something is none."""
