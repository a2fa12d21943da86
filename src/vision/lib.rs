//! Pixels with OpenCV: decoding, motion, the guard of a still object, the classic detectors, drawing.
