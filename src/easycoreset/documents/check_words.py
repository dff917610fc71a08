"""The checks of an evaluation in words: what was tried, and what would be wrong."""

WORDS = {
    "class_names": "Compared the class names of the model and of the data: other names may mean another order.",
    "trained_on": "Looked for these images in the model's training data: it may have memorised them.",
    "above_chance": "Compared clean accuracy with always naming the largest class: below it, attacks show nothing.",
    "input_normalisation": "Normalised the input in usual ways: if accuracy rises, the model expects normalised input.",
    "inputs_in_range": "Looked at the range of the images: outside of [0, 1] a radius does not mean what it says.",
    "finite_logits": "Looked for logits that are not finite: no accuracy would mean anything.",
    "finite_gradients": "Looked for input gradients that are not finite: attacks would follow noise.",
    "batch_invariance": "Predicted images alone and in a batch: if that differs, images influence each other.",
    "deterministic": "Predicted the same images twice: a model that is random must be attacked on average.",
    "logits_not_probabilities": "Looked whether the outputs are probabilities: attacks need logits before a softmax.",
    "input_gradient": "Looked whether a gradient reaches the input: without one, gradient attacks show nothing.",
    "zero_gradient": "Counted images whose gradient vanishes: attacks by cross-entropy would stand still there.",
    "large_eps": "Attacked without bounds: if an image survives, the gradients do not guide the attack.",
    "order": "Compared two attacks: if the weaker one breaks more images, the stronger one does not work here.",
    "longer_attack": "Attacked survivors five times as long: if many break, robust accuracy is too high.",
    "state_unchanged": "Compared the weights before and after: an attack must not change the model.",
}


def describe_check(name: str) -> str:
    """What a check tried, from its name; the name itself where it is unknown.

    >>> describe_check("order:fgsm<pgd@0.1")
    'Compared two attacks: if the weaker one breaks more images, the stronger one does not work here. (fgsm<pgd@0.1)'
    """
    kind, _, detail = name.partition(":")
    return WORDS.get(kind, name) + (f" ({detail})" if detail and kind in WORDS else "")
