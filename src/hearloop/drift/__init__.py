"""Noticing that the speech has changed, and deciding what to do about it.

Shift and harm are two things. A shift (`detectors`: the inputs look different) asks for labels; a
harm (`harm`: more words are wrong on corrected calls) retrains. Both are tested call by call,
because utterances of one call resemble each other and tests over utterances alarm for nothing.
"""
