"""The bias of multiple-choice answers: found, edited out, measured."""
