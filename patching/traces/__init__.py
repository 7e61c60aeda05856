"""Attribution graphs: direct effects between latents at one prompt, and what is made of them."""
