"""Write a result in many forms, without knowledge of how it was found."""
